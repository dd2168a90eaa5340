"""Keys and passwords of tests, and the variables that make the keys and passwords valid."""

import base64

KEY = "key-of-the-tests-0123456789"
KEY_HASH = "fc13901e7954b91380328cc0b742785f4cfd48e0429d262e61f1b3a8ba40bc01"
API_KEYS = f"ci:{KEY_HASH}:read,write"

# The cheapest hashes that BASIC_USERS accepts.
PASSWORD = "open sesame"
PASSWORD_HASH = "$argon2id$v=19$m=7168,t=5,p=1$MDEyMzQ1Njc4OWFiY2RlZg$HPxNtkZgAWVPOXrDGj+U9dxUSahBNKK9qaVEy6LwcMM"
OTHER_PASSWORD = "pässwörd"
OTHER_HASH = "$argon2id$v=19$m=7168,t=5,p=1$ZmVkY2JhOTg3NjU0MzIxMA$d7ALMrHytM4f64hStyIWkS+iNAbhsya8F67Cy6N2mNw"
BASIC_USERS = f"ada:{PASSWORD_HASH}:read jürgen:{OTHER_HASH}"


def credential(name: str, password: str) -> bytes:
    """What follows the scheme in Authorization (RFC 7617 §2)."""
    return base64.b64encode(f"{name}:{password}".encode())


def basic(name: str = "ada", password: str = PASSWORD) -> bytes:
    return b"Authorization: Basic " + credential(name, password)


def api_key(key: str = KEY) -> bytes:
    return b"X-API-Key: " + key.encode()
