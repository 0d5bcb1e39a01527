"""`python -m prune_keras.cli` is `prune-keras`."""

from prune_keras.cli import main

if __name__ == "__main__":
    main()
