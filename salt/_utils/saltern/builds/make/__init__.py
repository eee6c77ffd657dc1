"""How a build is made, on an operator's machine: see ``command``, which ``bin/build`` runs."""
