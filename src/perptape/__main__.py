"""``python -m perptape``."""

from perptape.cli import main

main()
