{% set base = salt['settings.load']('base') %}

# A run that cannot have apt ends here, before anything is touched.
base-apt-free:
  apt_lock.free:
    - name: apt
    - order: first
    - failhard: True

# apt itself waits as long for whatever begins to use apt after that.
base-apt-waits:
  file.managed:
    - name: /etc/apt/apt.conf.d/90saltern
    - contents: DPkg::Lock::Timeout "300";
    - mode: '0644'
    - order: first

# libnss-myhostname resolves names below .localhost to this host for every program, as RFC 6761 says.
base-packages:
  pkg.installed:
    - pkgs: {{ (['ca-certificates', 'dbus', 'libnss-myhostname', 'logrotate', 'systemd-timesyncd'] + base.packages)
        | unique | sort | tojson }}
    - aggregate: {{ salt['apt_lock.together']() | length > 0 }}
    # Installed before the apps' builds, which are unpacked beside the rest of a new host.
    - order: 1
