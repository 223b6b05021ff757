"""Fit a line to data/sample.csv; metrics go to output/, the model to checkpoints/."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from training.model import Line
from training.samples import load

HERE = Path(__file__).resolve().parent
SETTINGS = json.loads((HERE / "config" / "current.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=SETTINGS["epochs"])
    epochs = parser.parse_args().epochs
    xs, ys = load(HERE / "data" / "sample.csv")
    line = Line()
    losses = []
    for epoch in range(1, epochs + 1):
        losses.append(line.step(xs, ys, SETTINGS["learning_rate"]))
        if epoch % max(1, epochs // 4) == 0:
            print(f"epoch {epoch}/{epochs} loss {losses[-1]:.3f}")
    metrics = {"epochs": epochs, "loss": losses[-1]}
    save("output/metrics.json", metrics)
    if bucket := os.environ.get("RESULTS_BUCKET"):
        # What lies in output/s3/<bucket>/ is carried to that bucket by the instance's agent.
        instance = os.environ.get("CODEFERRY_INSTANCE_ID", "here")
        save(f"output/s3/{bucket}/train/{instance}/metrics.json", metrics)
    save("checkpoints/line.json", vars(line))
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} after {epochs} epochs")


def save(name: str, values: dict) -> None:
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
