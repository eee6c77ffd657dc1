#!yaml
include:
  - certificates
  - rabbitmq
