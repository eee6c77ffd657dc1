{% set apps = salt['settings.load']('app') %}

{% for app in apps | sort %}
app-build-{{ app }}:
  build.unpacked:
    - name: {{ app }}
    - require:
      - file: app-directory-{{ app }}

app-release-{{ app }}:
  release.current:
    - name: {{ app }}
    - require:
      - build: app-build-{{ app }}
      - file: app-process
      - service: supervisor-service
{% endfor %}
