include:
  - certificates
  - rabbitmq
