"""How uv is kept to the files that it is given, on a host and where a build is made."""

UV = {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
