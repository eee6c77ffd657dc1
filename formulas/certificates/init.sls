#!yaml
certificates-directory:
  file.directory:
    - name: /etc/ssl/saltern
    - user: root
    - group: root
    - mode: '0755'

# Each new connection reads this file anew.
certificates-authorities:
  certificate.authorities:
    - name: /etc/ssl/saltern/ca.pem
    - require:
      - file: certificates-directory
