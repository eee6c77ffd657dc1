include:
  - master.service
