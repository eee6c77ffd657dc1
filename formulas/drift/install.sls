#!yaml
drift-script:
  file.managed:
    - name: /usr/local/lib/saltern/drift
    - source: salt://drift/files/drift.py
    - mode: '0755'
    - makedirs: True
