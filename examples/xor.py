"""XOR, the smallest problem that needs a hidden layer."""

from cymlp import Sequential
from cymlp.layers import Dense
from cymlp.optimizers import Adam

X = [[0, 0], [0, 1], [1, 0], [1, 1]]
y = [0, 1, 1, 0]

net = Sequential([Dense(8, activation="tanh"), Dense(1, activation="sigmoid")], random_state=0)
net.compile(optimizer=Adam(learning_rate=0.05), loss="binary_cross_entropy")
history = net.fit(X, y, epochs=500, batch_size=4, verbose=0)

print(f"loss {history.history['loss'][0]:.3f} before, {history.history['loss'][-1]:.4f} after")
for (a, b), probability in zip(X, net.predict(X)[:, 0], strict=True):
    print(f"{a} xor {b}: {probability:.3f}, so {probability > 0.5:d}")
