"""`python -m commerce_assets`: the command line, as it is from a clone."""

from commerce_assets.cli.main import main

if __name__ == "__main__":
    main()
