include:
  - master
