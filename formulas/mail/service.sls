{% set mail = salt['settings.load']('mail') %}

{% if mail.relays %}
mail-service:
  unit.running:
    - name: saltern-mail
    - require:
      - service_config: mail-unit-read
      - file: mail-config
      - file: mail-programs
      - file: mail-password

mail-loaded:
  service_config.loaded:
    - name: saltern-mail
    - files:
      - /etc/systemd/system/saltern-mail.service
      - /etc/postfix/master.cf
    - watch:
      - file: mail-unit
      - file: mail-programs
    - require:
      - unit: mail-service

# Another smart host, or another password, is read at a reload, and no mail is lost.
mail-served:
  resource.done:
    - name: default
    - kind: mail
    - step: served
    - require:
      - service_config: mail-loaded
{% endif %}

# Stopped after the apps: a process ends before what it attaches.
mail-retired:
  resource.done:
    - name: the relay
    - kind: mail
    - step: retired
    - order: last
    - require:
      - pkg: mail-package
