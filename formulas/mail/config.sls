{% set mail = salt['settings.load']('mail') %}

{% if mail.relays %}
# Postfix tries another parameter of the pillar in a scratch directory. One that it refuses is never live.
mail-config-judged:
  resource.done:
    - name: /etc/postfix/main.cf
    - kind: mail
    - step: configured
    - require:
      - pkg: mail-package

mail-config:
  file.managed:
    - name: /etc/postfix/main.cf
    - source: salt://mail/files/main.cf.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - resource: mail-config-judged

mail-programs:
  file.managed:
    - name: /etc/postfix/master.cf
    - source: salt://mail/files/master.cf.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - resource: mail-config-judged

mail-password:
  file.managed:
    - name: /etc/postfix/saltern-password
    - source: salt://mail/files/password.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: '0600'
    - show_changes: False
    - require:
      - resource: mail-config-judged

mail-unit:
  file.managed:
    - name: /etc/systemd/system/saltern-mail.service
    - source: salt://mail/files/saltern-mail.service
    - mode: '0644'

mail-unit-read:
  service_config.unit_read:
    - name: the unit of the relay
    - units: [saltern-mail]
    - watch:
      - file: mail-unit
{% endif %}
