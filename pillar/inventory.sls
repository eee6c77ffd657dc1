{% import_yaml 'hosts.yaml' as hosts %}
hosts: {{ hosts | tojson }}
