"""The examples are what their pages say: a job that parses, data that is whole, requirements that are pinned."""

from __future__ import annotations

import csv
from pathlib import Path

from suanli.jobs.job import Job
from suanli.jobs.requirements import read_hashed

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def test_the_digits_job_is_one_that_the_client_takes() -> None:
    """It names files that are there."""
    job = Job.from_yaml(DIGITS / "job.yaml")
    assert job.name == "digits"
    assert [Path(item.source).name for item in job.inputs] == ["digits.csv"]
    assert job.requirements is not None
    assert Path(job.requirements).is_file()


def test_the_digits_are_all_there() -> None:
    """1,797 images of 64 pixels between 0 and 16, every digit about as often as the others."""
    with (DIGITS / "digits.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    head, images = rows[0], [[int(value) for value in row] for row in rows[1:]]
    assert head[-1] == "digit"
    assert len(images) == 1797
    assert {len(image) for image in images} == {65}
    assert all(0 <= pixel <= 16 for image in images for pixel in image[:-1])
    counts = [sum(image[-1] == digit for image in images) for digit in range(10)]
    assert min(counts) > 170


def test_requirements_are_hashed_and_name_no_host() -> None:
    """Every package with version and hashes; no address."""
    assert read_hashed(DIGITS / "requirements.lock")
    text = (DIGITS / "requirements.lock").read_text()
    assert "://" not in text
    assert "--index" not in text
