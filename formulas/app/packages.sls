{% set apps = salt['settings.load']('app') %}
{% set packages = apps.values() | map(attribute='build.packages', default=[]) | sum(start=[]) | unique | sort %}

include:
  - base.install

# A run with a package that apt cannot install ends here, before anything is touched.
app-packages-judged:
  app_packages.judged:
    - name: app-packages
    - order: first
    - failhard: True
    - require:
      - apt_lock: base-apt-free

{% if packages %}
# What the apps' Aptfiles ask for. A package for which no app asks any more stays: `app.orphans` lists it.
app-packages:
  pkg.installed:
    - pkgs: {{ packages | tojson }}
{% for argument in salt['apt_lock.together']() %}
    - {{ argument | tojson }}
{% endfor %}
    - require:
      - app_packages: app-packages-judged
{% endif %}
