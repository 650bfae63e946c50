"""Trains and compares classifiers on the handwritten digits, over a grid of settings.

Reads the table (64 pixels and a label a row), keeps a quarter aside, scores every setting of every model by
cross-validation on the rest, and measures the best one on the quarter that none of them has seen. Writes

    digits.png    learning curves, comparison, confusion matrix, the digits that were misread
    scores.json   every setting with its scores
    curves.csv    the points of the learning curves

Runs on one core, needs no network, and gives the same scores every time.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figure import draw
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold, learning_curve, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SEED = 7
FOLDS = 5
SIZES = np.linspace(0.1, 1.0, 7)  # shares of the training images at which a learning curve is measured


@dataclass
class Family:
    """A kind of model and the settings to try."""

    name: str
    model: Any
    grid: dict[str, list[Any]]


@dataclass
class Contest:
    """What one family reached: its best setting, all settings, and its learning curve."""

    name: str
    best: Any
    setting: dict[str, Any]
    score: float
    spread: float
    tried: list[dict[str, Any]]
    sizes: np.ndarray
    curve: np.ndarray
    band: np.ndarray
    seconds: float


def families() -> list[Family]:
    """The models that compete, simplest first."""
    return [
        Family(
            "logistic regression",
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
            {"logisticregression__C": [0.003, 0.03, 0.3]},
        ),
        Family(
            "nearest neighbours",
            KNeighborsClassifier(),
            {"n_neighbors": [1, 3, 5, 9], "weights": ["uniform", "distance"]},
        ),
        Family(
            "random forest",
            RandomForestClassifier(random_state=SEED),
            {"n_estimators": [20, 60], "max_depth": [8, None]},
        ),
        Family(
            "neural network",
            make_pipeline(
                StandardScaler(),
                MLPClassifier(random_state=SEED, max_iter=60, learning_rate_init=0.005),
            ),
            {"mlpclassifier__hidden_layer_sizes": [(32,), (96,)], "mlpclassifier__alpha": [1e-4, 1e-1]},
        ),
        Family(
            "support vectors",
            SVC(kernel="rbf"),
            {"C": [1, 10], "gamma": [0.0003, 0.001, 0.003]},
        ),
    ]


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels as floats of shape (images, 64), and the digits."""
    table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64)
    if table.ndim != 2 or table.shape[1] != 65:
        raise SystemExit(f"{path}: 64 pixels and a digit are wanted in each row, found {table.shape}")
    return table[:, :64].astype(np.float64), table[:, 64]


def plain(setting: dict[str, Any]) -> dict[str, Any]:
    """A setting without the pipeline's prefixes, as JSON takes it."""
    return {key.rpartition("__")[2]: value for key, value in setting.items()}


def compete(family: Family, images: np.ndarray, labels: np.ndarray) -> Contest:
    """Scores every setting of a family by cross-validation, and measures the best one's learning curve."""
    begin = time.perf_counter()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    search = GridSearchCV(family.model, family.grid, cv=folds).fit(images, labels)
    results = search.cv_results_
    tried = [
        {"setting": plain(setting), "accuracy": round(float(mean), 6), "spread": round(float(spread), 6)}
        for setting, mean, spread in zip(
            results["params"], results["mean_test_score"], results["std_test_score"], strict=True
        )
    ]
    sizes, _, scores = learning_curve(
        search.best_estimator_,
        images,
        labels,
        cv=folds,
        train_sizes=SIZES,
        shuffle=True,
        random_state=SEED,
    )
    return Contest(
        name=family.name,
        best=search.best_estimator_,
        setting=plain(search.best_params_),
        score=float(search.best_score_),
        spread=float(results["std_test_score"][search.best_index_]),
        tried=tried,
        sizes=sizes,
        curve=scores.mean(axis=1),
        band=scores.std(axis=1),
        seconds=time.perf_counter() - begin,
    )


def words(setting: dict[str, Any]) -> str:
    """A setting as a person reads it."""
    return ", ".join(f"{key} {value}" for key, value in setting.items())


def write_scores(path: Path, contests: list[Contest], winner: Contest, accuracy: float, matrix: np.ndarray) -> None:
    """All scores as JSON: no times, so that the same data gives the same bytes."""
    report = {
        "winner": winner.name,
        "setting": winner.setting,
        "testAccuracy": round(accuracy, 6),
        "confusion": matrix.tolist(),
        "folds": FOLDS,
        "families": [
            {"name": c.name, "setting": c.setting, "accuracy": round(c.score, 6), "tried": c.tried} for c in contests
        ],
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def write_curves(path: Path, contests: list[Contest]) -> None:
    """The points of the learning curves."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "images", "accuracy", "spread"])
        for contest in contests:
            for size, mean, spread in zip(contest.sizes, contest.curve, contest.band, strict=True):
                writer.writerow([contest.name, size, f"{mean:.6f}", f"{spread:.6f}"])


def main() -> None:
    """Reads, trains, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("/in/digits.csv"))
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("SUANLI_OUTPUT_DIR", "out")))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    begin = time.perf_counter()

    images, labels = read_table(options.data)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=SEED
    )
    print(f"{len(images)} images of 8 x 8 pixels: {len(train)} to learn from, {len(test)} kept aside", flush=True)

    contests = []
    for number, family in enumerate(all_families := families(), 1):
        contest = compete(family, train, train_labels)
        contests.append(contest)
        print(
            f"[{number}/{len(all_families)}] {contest.name:<20} {contest.score:7.2%} ± {contest.spread:.2%}"
            f"   {len(contest.tried)} settings, {contest.seconds:4.1f} s   best: {words(contest.setting)}",
            flush=True,
        )

    winner = max(contests, key=lambda contest: contest.score)
    guessed = winner.best.predict(test)
    accuracy = float(accuracy_score(test_labels, guessed))
    matrix = confusion_matrix(test_labels, guessed, labels=range(10))
    wrong = int((guessed != test_labels).sum())
    print(f"winner: {winner.name}, {accuracy:.2%} of those kept aside ({wrong} of {len(test)} misread)", flush=True)

    options.out.mkdir(parents=True, exist_ok=True)
    write_scores(options.out / "scores.json", contests, winner, accuracy, matrix)
    write_curves(options.out / "curves.csv", contests)
    draw(options.out / "digits.png", contests, winner, accuracy, matrix, test, test_labels, guessed)
    print(f"wrote digits.png, scores.json, curves.csv in {time.perf_counter() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
