"""The deep run: real processes are killed at named points, the chain is reorganised, and nothing may be lost.

python -m deep --minutes 30 --seed 1 --out docs/reliability.md      (with PYTHONPATH=tests)
"""
