"""Wide and shallow: softmax regression on scikit-learn's handwritten digits (1797 images of 8 x 8 pixels).

The weights W (64, 10) and biases b (10,) are held in one vector, as an optimiser wants them:

    loss(w) = -1/n sum_i log p_i[label_i] + decay/2 sum W^2,      p = softmax(X W + b)

Every image is its own short stretch of work and only the mean over the images joins them. The gradient has the closed
form X^T (p - onehot) / n + decay W, which is the demo's independent check. Nothing in this file knows about distdiff.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CLASSES = 10
PIXELS = 64
PARAMETERS = (PIXELS + 1) * CLASSES
DECAY = 1.0e-3
HELD_OUT = 360


def load(held_out: int = HELD_OUT) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images (n, 64) scaled to [0, 1] and labels (n,), then the same for the last `held_out` images.

    ImportError says what to install where scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which this Python cannot import; pip install scikit-learn"
        ) from error
    images, labels = load_digits(return_X_y=True)
    images = images / 16.0
    return images[:-held_out], labels[:-held_out], images[-held_out:], labels[-held_out:]


def make_loss(images: np.ndarray, labels: np.ndarray) -> Callable:
    """loss(w) of the module's docstring for images (n, 64) and labels (n,); w has shape (650,)."""
    samples = np.arange(len(labels))

    def loss(w):
        weights, biases = w[: PIXELS * CLASSES].reshape(PIXELS, CLASSES), w[PIXELS * CLASSES :]
        scores = images @ weights + biases
        top = np.max(scores, axis=1, keepdims=True)  # keeps exp from overflowing
        log_normaliser = top[:, 0] + np.log(np.sum(np.exp(scores - top), axis=1))
        likelihood = scores[samples, labels] - log_normaliser
        return -np.sum(likelihood) / len(labels) + 0.5 * DECAY * np.sum(weights**2)

    return loss


def closed_form_gradient(w: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient of `make_loss(images, labels)` at w by the textbook formula, shape (650,)."""
    weights, biases = w[: PIXELS * CLASSES].reshape(PIXELS, CLASSES), w[PIXELS * CLASSES :]
    scores = images @ weights + biases
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    residual = (probabilities - np.eye(CLASSES)[labels]) / len(labels)
    return np.concatenate([(images.T @ residual + DECAY * weights).ravel(), residual.sum(axis=0)])


def accuracy(w: np.ndarray, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose highest score is their label."""
    weights, biases = w[: PIXELS * CLASSES].reshape(PIXELS, CLASSES), w[PIXELS * CLASSES :]
    return float(np.mean(np.argmax(images @ weights + biases, axis=1) == labels))


def start() -> np.ndarray:
    """A small random starting point, shape (650,), the same on every rank."""
    return 0.01 * np.random.default_rng(0).standard_normal(PARAMETERS)


def loss(w):
    """`make_loss` on the training images, for the command line."""
    images, labels, _, _ = load()
    return make_loss(images, labels)(w)
