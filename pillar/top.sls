{% set environment = salt['inventory.environment'](salt['inventory.read'](), opts.id) %}
# If Salt does not find 'inventory.read', run bootstrap.sh again: it tells Salt where the tree's package is.
# common, environments.X, builds.X, secrets.X and certificates.X.HOST, as far as they are there and can be loaded. The
# external pillar names what cannot. The build tool writes the builds, an operator the secrets and the certificates.
base:
  {{ opts.id | tojson }}: {{ salt['settings.loadable'](environment, opts.id) | tojson }}
