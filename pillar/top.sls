{% set environment = salt['inventory.environment'](salt['inventory.read'](), opts.id) %}
# common, environments.X, builds.X, secrets.X and certificates.X.HOST: what is there and can be loaded. The external pillar
# says what cannot. The release tool writes the builds, an operator the secrets and the certificates.
base:
  {{ opts.id | tojson }}: {{ salt['settings.loadable'](environment, opts.id) | tojson }}
