"""Handwritten digits with Sequential: train, watch the test set, show the network and its layers.

Needs scikit-learn for the digits: pip install "cymlp[sklearn]"
"""

from cymlp import Sequential
from cymlp.datasets import load_digits
from cymlp.layers import Dense

X_train, y_train, X_test, y_test = load_digits()

net = Sequential(
    [Dense(128, activation="relu"), Dense(10, activation="softmax")],
    n_inputs=64,
    random_state=0,
)
net.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])
net.summary()

# In a terminal, fit shows a progress bar.
history = net.fit(X_train, y_train, epochs=60, batch_size=32, validation_data=(X_test, y_test))

print(
    f"training loss {history.history['loss'][0]:.3f}, at the end {history.history['loss'][-1]:.3f}"
)
print(f"test accuracy {net.evaluate(X_test, y_test)['accuracy']:.1%}")

hidden, probabilities = net.layer_outputs(X_test[:1])
print(f"the first test image makes {(hidden > 0).sum()} of {hidden.size} hidden units respond;")
print(f"it is a {y_test[0]}, and the network says {probabilities.argmax()}")
