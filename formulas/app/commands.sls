{% set apps = salt['settings.load']('app') %}
{% set clients = salt['attachment.clients']() %}

include:
  - app.install

{% if clients %}
app-clients:
  pkg.installed:
    - pkgs: {{ clients | tojson }}
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
{% endif %}

{% for app in apps | sort %}
app-run-{{ app }}:
  file.managed:
    - name: /usr/local/bin/{{ app }}-run
    - contents: |
        #!/bin/sh
        # Runs a command in the current release of {{ app }}: its build, its config, its user.
        exec /usr/local/lib/saltern/process --run {{ app }} "$@"
    - mode: '0755'
    - require:
      - file: app-process
      - file: app-terminal

app-psql-{{ app }}:
  file.managed:
    - name: /usr/local/bin/{{ app }}-psql
    - contents: |
        #!/bin/sh
        # Runs psql at a database of {{ app }}, by the login of its current release.
        exec /usr/local/lib/saltern/process --psql {{ app }} "$@"
    - mode: '0755'
    - require:
      - file: app-process
      - file: app-terminal

{% endfor %}
