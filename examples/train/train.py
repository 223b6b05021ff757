"""Fit a line to data/sample.csv; metrics go to output/, the model to checkpoints/."""

from __future__ import annotations

import argparse
import json
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
    losses = [line.step(xs, ys, SETTINGS["learning_rate"]) for _ in range(epochs)]
    save("output/metrics.json", {"epochs": epochs, "loss": losses[-1]})
    save("checkpoints/line.json", vars(line))
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} after {epochs} epochs")


def save(name: str, values: dict) -> None:
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
