"""The command line. One module for each group of commands; `main` knows them by name only."""
