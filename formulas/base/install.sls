{% from 'base/new.jinja' import is_new with context %}
{% set base = salt['settings.load']('base') %}

# Before anything is touched: a run that cannot have apt ends here.
base-apt-free:
  apt_lock.free:
    - name: apt
    - order: first
    - failhard: True

# What begins to use apt after that is waited for by apt itself, as long.
base-apt-waits:
  file.managed:
    - name: /etc/apt/apt.conf.d/90saltern
    - contents: DPkg::Lock::Timeout "300";
    - mode: '0644'
    - order: first

# With libnss-myhostname names below .localhost are this host's for every program, as RFC 6761 says.
base-packages:
  pkg.installed:
    - pkgs: {{ (['ca-certificates', 'dbus', 'libnss-myhostname', 'logrotate', 'systemd-timesyncd'] + base.packages)
        | unique | sort | tojson }}
    - aggregate: {{ is_new }}
    # Before what is made beside the rest of a new host: the apps' builds.
    - order: 1
