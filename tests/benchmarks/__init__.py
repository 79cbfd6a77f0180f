"""What the bridge costs above its floors; `python -m tests.benchmarks` prints it."""
