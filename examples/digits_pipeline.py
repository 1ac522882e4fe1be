"""Handwritten digits in a scikit-learn Pipeline, its network chosen by cross-validation.

Needs scikit-learn: pip install "cymlp[sklearn]"
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cymlp import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

model = make_pipeline(StandardScaler(), MLPClassifier(learning_rate_init=0.005, random_state=0))
search = GridSearchCV(
    model,
    {
        "mlpclassifier__hidden_layer_sizes": [(64,), (128,)],
        "mlpclassifier__alpha": [0.0001, 0.01],
    },
    cv=3,
)
search.fit(X_train, y_train)

best = {name.partition("__")[2]: value for name, value in search.best_params_.items()}
print(f"best of {len(search.cv_results_['params'])}: {best}")
print(f"test accuracy {search.score(X_test, y_test):.1%}")
