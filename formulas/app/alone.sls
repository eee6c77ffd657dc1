{% set leases = salt['app.leases']() %}

include:
  - certificates

{% if leases %}
# What decides which host runs a process that is alone, or a job. Programs that supervisor and systemd start import it.
app-leases:
  file.recurse:
    - name: /usr/local/lib/saltern/leases
    - source: salt://_utils/saltern/leases
    - clean: True
    - exclude_pat: __pycache__*
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'

app-leases-files:
  file.managed:
    - name: /usr/local/lib/saltern/system/files.py
    - source: salt://_utils/saltern/system/files.py
    - makedirs: True
    - mode: '0644'

# These programs have no pillar.
app-leases-settings:
  file.serialize:
    - name: /etc/saltern/leases.json
    - serializer: json
    - dataset: {{ leases | tojson }}
    - makedirs: True
    - mode: '0644'
    - require:
      - file: app-leases
      - file: app-leases-files
{% endif %}

{% if leases.get('etcd') %}
# By this, etcd knows that the host may ask. It is root's: no app can.
app-etcd-certificate:
  certificate.present:
    - name: /etc/ssl/saltern/etcd-client.pem
    - user: root
    - require:
      - certificate: certificates-authorities
    - require_in:
      - file: app-leases-settings
{% endif %}
