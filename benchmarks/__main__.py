"""`python -m benchmarks`, which `make bench` runs."""

from benchmarks.throughput import main

if __name__ == "__main__":
    main()
