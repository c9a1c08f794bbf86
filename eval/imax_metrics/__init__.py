"""Where `evaluate.load` finds the metrics: `evaluate.load(FOLDER, "rec")`."""

from pathlib import Path

FOLDER = str(Path(__file__).parent)
