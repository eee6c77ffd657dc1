"""OpenAPI documents, as an API's provider would write them."""

import copy

QUESTION = {
    "type": "object",
    "required": ["id", "text"],
    "properties": {
        "id": {"type": "integer"},
        "text": {"type": "string", "maxLength": 100},
        "tag": {"type": ["string", "null"]},
        "at": {"type": "string", "format": "date-time"},
    },
}
NEW = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string", "maxLength": 100},
        "kind": {"enum": ["how", "why"]},
        "size": {"type": "number", "minimum": 1},
    },
}


def document(**changes):
    """Return a document with a list, a question and a way to make one."""
    json = "application/json"
    answer = {"content": {json: {"schema": {"$ref": "#/components/schemas/Question"}}}}
    questions = {"type": "array", "items": {"$ref": "#/components/schemas/Question"}}
    listing = {
        "parameters": [
            {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
            {"name": "X-Client", "in": "header", "schema": {"type": "string"}},
        ],
        "responses": {"200": {"content": {json: {"schema": questions}}}, "400": {"description": "No."}},
    }
    read = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
        "responses": {"200": answer, "404": {"description": "None."}},
    }
    create = {
        "requestBody": {"content": {json: {"schema": {"$ref": "#/components/schemas/New"}}}},
        "responses": {"201": answer | {"headers": {"Location": {"required": True, "schema": {"type": "string"}}}}},
    }
    made = {
        "openapi": "3.1.0",
        "info": {"title": "faq", "version": "1"},
        "paths": {"/questions": {"get": listing, "post": create}, "/questions/{id}": {"get": read}},
        "components": {"schemas": {"Question": QUESTION, "New": NEW}},
    }
    made = copy.deepcopy(made)
    for path, value in changes.items():
        *way, last = path.replace("_slash_", "/").split("__")
        at = made
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if value is None:
            del at[int(last) if isinstance(at, list) else last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    return made
