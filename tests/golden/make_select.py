"""Golden temperatures for `onnxsegment select`: SciPy's minimiser over the likelihood by scipy.special.

    python -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1
    venv/bin/python tests/golden/make_select.py
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

HERE = Path(__file__).parent
PIXELS = 400


def likelihood(kind: str, logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Mean negative log-likelihood per pixel of logits (classes x pixels) divided by a temperature."""
    z = logits.astype(np.float64) / temperature
    if kind == "softmax":
        return float(-log_softmax(z, axis=0)[truth, np.arange(len(truth))].mean())
    target = truth[None] == 1 if len(z) == 1 else truth[None] == np.arange(len(z))[:, None]
    return float(-np.where(target, log_expit(z), log_expit(-z)).sum(axis=0).mean())


def main() -> None:
    random = np.random.default_rng(4)
    cases = []
    for name, kind, classes, true_temperature in [
        ("too-sure", "sigmoid", 1, 2.5),
        ("not-sure-enough", "sigmoid", 1, 0.4),
        ("softmax", "softmax", 4, 1.8),
        ("sigmoids", "sigmoid", 3, 3.0),
    ]:
        logits = np.float32(np.round(random.normal(size=(classes, PIXELS)) * 3, 6))
        z = logits / true_temperature
        if kind == "softmax":
            p = np.exp(log_softmax(z.astype(np.float64), axis=0))
            truth = (random.random(PIXELS) > p.cumsum(axis=0)).sum(axis=0).clip(0, classes - 1)
        elif classes == 1:
            truth = (random.random(PIXELS) < np.exp(log_expit(z[0]))).astype(int)
        else:
            truth = (z + random.logistic(size=z.shape)).argmax(axis=0)
        found = minimize_scalar(
            lambda t: likelihood(kind, logits, truth, np.exp(t)),
            bounds=(np.log(0.05), np.log(20)),
            method="bounded",
            options={"xatol": 1e-10},
        )
        temperature = float(np.exp(found.x))
        cases.append(
            {
                "name": name,
                "link": kind,
                "channels": classes,
                "logits": [round(float(v), 6) for v in logits.ravel()],
                "truth": truth.tolist(),
                "temperature": temperature,
                "before": likelihood(kind, logits, truth, 1.0),
                "after": float(found.fun),
            }
        )
        print(name, temperature)
    (HERE / "select.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
