"""The command line. ``lorasub --help`` lists the verbs; each verb's own ``--help`` has an example."""
