#!yaml
include:
  - app.install

app-dbus:
  file.managed:
    - name: /etc/dbus-1/system.d/saltern-apps.conf
    - source: salt://app/files/dbus.conf.jinja
    - template: jinja
    - mode: '0644'
    - makedirs: True

# The bus reads it by itself, unless the kernel has no inotify instance left. Some servers have no bus.
app-dbus-read:
  cmd.run:
    - name: >-
        test ! -S /run/dbus/system_bus_socket ||
        busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig
    - onchanges:
      - file: app-dbus
