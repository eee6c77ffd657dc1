{% set apps = salt['settings.load']('app') %}
{% set leases = salt['app.leases']() %}

include:
  - nginx.service
  - supervisor.service
  - certificates
  - app.install
  - app.alone
  - app.packages

# Started early: it takes as long to start as the states before a release.
app-contracts-begun:
  contract.begun:
    - name: /usr/local/lib/saltern/contract
    - apps: {{ apps | sort | tojson }}
    - order: 1

{% set awaited = salt['app.awaited'](apps) %}
{% if awaited %}
# An app that is gone goes on while what takes its place is refused.
app-replaceable:
  test.nop:
    - name: what takes the place of an app
    - require: {{ awaited | tojson }}
    - require_in:
      - nginx_tree: nginx-config
      - app: app-retired
{% for requisite in salt['attachment.replacing']() %}
      - {{ requisite | tojson }}
{% endfor %}
{% endif %}

# Removed first, because another app may be given its ports.
app-retired:
  app.retired:
    - name: /srv/apps
    - apps: {{ apps | sort | tojson }}
    - require:
      - service_config: supervisor-loaded

app-limits-retired:
  app_limits.retired:
    - name: limits of apps
    - apps: {{ apps | sort | tojson }}
    - require:
      - app: app-retired

{% for app in apps | sort %}
app-build-{{ app }}:
  build.unpacked:
    - name: {{ app }}
{% if salt['build.is_first'](app) and not opts.test %}
    # Unpacked after the packages, which keep the machine busy, and beside the rest of a new host.
    - order: 2
    - parallel: True
{% endif %}
    - require:
      - file: app-directory-{{ app }}

app-served-{{ app }}:
  build.served:
    - name: {{ app }}
{% if apps[app].site.serve and not salt['build.damage'](app) %}
    # Of a build that is there, before nginx is told of it.
    - order: 3
{% endif %}
    - require:
      - build: app-build-{{ app }}

app-limits-{{ app }}:
  app_limits.enforced:
    - name: {{ app }}
    - require:
      - app_limits: app-limits-retired

app-release-{{ app }}:
  release.current:
    - name: {{ app }}
    - require:
      - build: app-served-{{ app }}
      - file: app-process
      - file: app-contract
      - app_limits: app-limits-{{ app }}
{% if leases %}
      - file: app-leases-settings
{% endif %}
{% if 'packages' in apps[app].build %}
      - pkg: app-packages
{% endif %}
      - certificate: certificates-authorities
      - service_config: supervisor-loaded
      - unit: nginx-service
{% for requisite in salt['attachment.requisites'](app) %}
      - {{ requisite | tojson }}
{% endfor %}
{% endfor %}
