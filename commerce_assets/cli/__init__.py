"""The command line `commerce-assets`: one module a command, imported when the command is given."""
