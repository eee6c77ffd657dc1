hosts: {{ salt['inventory.read']() | tojson }}
