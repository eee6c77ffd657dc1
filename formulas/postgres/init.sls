#!yaml
include:
  - postgres.install
  - postgres.config
  - postgres.service
  - postgres.pool
  - postgres.pool_config
  - postgres.pool_service
