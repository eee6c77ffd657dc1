include:
  - drift.install
  - drift.service
