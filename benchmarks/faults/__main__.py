"""`python -m benchmarks.faults`, which `make faults` runs."""

from benchmarks.faults.cli import main

if __name__ == "__main__":
    main()
