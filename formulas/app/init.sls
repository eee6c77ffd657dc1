#!yaml
include:
  - app.install
  - app.commands
  - app.packages
  - app.bus
  - app.alone
  - app.release
  - app.jobs
  - app.left
