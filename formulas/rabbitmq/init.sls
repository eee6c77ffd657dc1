#!yaml
include:
  - rabbitmq.install
  - rabbitmq.config
  - rabbitmq.service
