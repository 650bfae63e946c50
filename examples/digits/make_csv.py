"""Writes digits.csv, the handwritten digits as a table, from the copy that scikit-learn carries.

Each row is one image: 64 pixels (8 × 8, row by row, 0 white … 16 black) and the digit that it shows.
"""

from __future__ import annotations

import csv
from pathlib import Path

from sklearn.datasets import load_digits

TARGET = Path(__file__).with_name("digits.csv")


def main() -> None:
    """Writes the table beside this script."""
    images, labels = load_digits(return_X_y=True)
    with TARGET.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f"p{row}{column}" for row in range(8) for column in range(8)] + ["digit"])
        for pixels, label in zip(images.astype(int).tolist(), labels.tolist(), strict=True):
            writer.writerow([*pixels, label])
    print(f"{TARGET.name}: {len(labels)} rows")


if __name__ == "__main__":
    main()
