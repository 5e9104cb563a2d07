# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is a secret: private keys, tokens of known forms, and passwords in the files that usually have them. No I/O.

What only stands for a secret is none: `${NPM_TOKEN}`, `<token>`, `ghp_xxxxxxxx`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

Forms = Mapping[bytes, re.Pattern[bytes]]  # what each secret of a form has in it, and the form
KEYS: Forms = {
    b"PRIVATE KEY": re.compile(  # the last form is that of a quoted text, such as in JSON
        rb"-----BEGIN ([A-Z0-9]+ ){0,4}PRIVATE KEY( BLOCK)?-----"
        rb"([ \t]*\r?\n\s*[A-Za-z0-9+/=]|[ \t]+[A-Za-z0-9+/=]{32}|((\\+r)?\\+n)+([A-Za-z0-9+/=]{32}|Proc-Type: ))"),
    b"LS0tLS1CRUdJTi": re.compile(  # in base64, as in Kubernetes' files
        rb"LS0tLS1CRUdJTi[A-Za-z0-9+/]{0,40}(UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)"),
    b"---- BEGIN SSH2 ": re.compile(rb"---- BEGIN SSH2 (ENCRYPTED )?PRIVATE KEY ----\s"),
    b"PuTTY-User-Key": re.compile(rb"^PuTTY-User-Key-File-[0-9]+: ", re.M),
    b"AGE-SECRET-KEY": re.compile(rb"\bAGE-SECRET-KEY-1[A-Z0-9]{32}"),
    b"PrivateKey": re.compile(rb"^[ \t]*PrivateKey\s*=\s*[A-Za-z0-9+/]{43}=", re.M),  # WireGuard's
    b'"kty"': re.compile(  # a JSON Web Key, RFC 7517 and 7518: private numbers, or a shared one
        rb'\{(?=[^{}]*"kty"\s*:\s*"(RSA|EC|OKP|oct)")[^{}]*"[dk]"\s*:\s*"[A-Za-z0-9_-]{22,}"'),
    b"private-key": re.compile(rb"^Key: \((protected-)?private-key ", re.M),  # of GnuPG, in private-keys-v1.d
    b"Private-key-format": re.compile(rb"^Private-key-format: v[0-9.]+\s+Algorithm: ", re.M),  # of DNSSEC
}
_GITHUB = re.compile(rb"\bgh[oprsu]_(?!x{8})[A-Za-z0-9]{36}", re.I)
_AWS = re.compile(  # but for that of Amazon's own examples
    rb"aws_secret_access_key[\"']?\s*[=:]\s*[\"']?(?![A-Za-z0-9/+]*EXAMPLE)[A-Za-z0-9/+]{40}\b", re.I)
TOKENS: Forms = {  # as their makers say how they begin
    **dict.fromkeys((b"gho_", b"ghp_", b"ghr_", b"ghs_", b"ghu_"), _GITHUB),
    b"github_pat_": re.compile(rb"\bgithub_pat_(?!x{8})[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", re.I),
    b"glpat-": re.compile(rb"\bglpat-(?!x{8})[A-Za-z0-9_-]{20}", re.I),
    b"npm_": re.compile(rb"\bnpm_(?!x{8})[A-Za-z0-9]{36}\b", re.I),
    b"pypi-": re.compile(rb"\bpypi-AgE[A-Za-z0-9_-]{60}"),
    b"rubygems_": re.compile(rb"\brubygems_[0-9a-f]{48}"),
    b"dckr_pat_": re.compile(rb"\bdckr_pat_(?!x{8})[A-Za-z0-9_-]{27}", re.I),
    b"xox": re.compile(rb"\bxox[abeoprs]-[0-9]{6,}-[A-Za-z0-9-]{10}"),
    b"hooks.slack.com": re.compile(
        rb"hooks\.slack\.com/services/T(?!X{6}|0{6})[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20}"),
    b"k_live_": re.compile(rb"\b[rs]k_live_(?!x{8})[A-Za-z0-9]{20}", re.I),
    b"hvs.": re.compile(rb"\bhvs\.[A-Za-z0-9_-]{24}"),
    b"SG.": re.compile(rb"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    b"dop_v1_": re.compile(rb"\bdop_v1_[0-9a-f]{64}"),
    **dict.fromkeys((b"aws_secret_access_key", b"AWS_SECRET_ACCESS_KEY"), _AWS),
}
# keys in DER (X.690): PKCS #8, encrypted or not, PKCS #1, SEC 1; PKCS #12 and Java's with a key; those of GnuPG, and a
# secret key in a packet of OpenPGP (RFC 9580, 5.5.3): its version, its time, its algorithm
BINARY = re.compile(
    rb"\A\x30([\x20-\x7f]|\x81.|\x82..|\x83...)("
    rb"\x02\x01[\x00\x01]\x30[\x05-\x7f]\x06[\x03-\x0b]|\x30[\x10-\x7f]\x06(\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05|"
    rb"\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01)|\x02\x01\x00\x02(\x81.|\x82..)|\x02\x01\x01\x04[\x1c-\x42]|"
    rb"\x02\x01\x03\x30.*\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01[\x01\x02])"
    rb"|\A\xfe\xed\xfe\xed\x00\x00\x00[\x01\x02].{4}\x00\x00\x00\x01"
    rb"|\A\((11:private-key|21:protected-private-key)\("
    rb"|\A(\x94.|\x95..|\xc5([\x00-\xbf]|[\xc0-\xdf].))[\x04\x06][\x30-\x7f]...[\x01\x11-\x13\x16\x19-\x1c]", re.S)

_VALUE = rb"[\"']?(?![\"'$<{*%])[^\s\"'#]"  # how a value begins that does not stand for another
URL = re.compile(rb"://[^/\s:@\"'<>\\]*:(?![$<{*%])[^/\s@\"'<>\\]+@")  # with a password
_NETRC = re.compile(rb"^[ \t]*(machine|default)\b((?!^[ \t]*(machine|default)\b)[^\0])*?\bpassword\s+" + _VALUE, re.M)
_NPM = re.compile(rb"_(auth|authToken|password)\s*=\s*" + _VALUE)
_GIT = re.compile(URL.pattern + rb"|(?i:authorization:\s*(basic|bearer|token)\s+[a-z0-9])")
_DOCKER = re.compile(rb'"(auth|identitytoken|registrytoken)"\s*:\s*"[A-Za-z0-9+/]{4}')
_CREDENTIALS = re.compile(rb"(_key|token|password|secret)[\"']?\s*[=:]\s*" + _VALUE + rb"|" + URL.pattern)
_PASSWORD = re.compile(rb"^[ \t]*[\w.-]*password[\"']?\s*[=:]\s*" + _VALUE, re.M)
_OAUTH = re.compile(rb"\b(oauth_token|token|refresh_token)[\"']?\s*[=:]\s*" + _VALUE)
_KUBE = re.compile(rb"^[ \t]*(token|password|client-key-data)\s*:\s*\S"
                   rb'|"(token|password|client-key-data)"\s*:\s*"[^"$]', re.M)
_STATE = re.compile(  # values that a provider marks as sensitive are written plainly too
    rb'"(\w+_)?(password|secret|token|private_key|secret_key|access_key)"\s*:\s*"[^"$]')
_AZURE = re.compile(rb'"(secret|accessToken|refreshToken)"\s*:\s*"[^"$]')
_COMPOSER = re.compile(rb'"password"\s*:\s*"[^"$]|"(github-oauth|gitlab-token|bearer)"\s*:\s*\{\s*"')
_HTPASSWD = re.compile(rb"^[^:#\s]+:(\$|\{SHA\}|[A-Za-z0-9./]{13}$)", re.M)
_HASHED = re.compile(rb"^[^:\n]+:(?!x:)[^:*!\n]", re.M)
# names of variables; and the same in a file of them
NAME = re.compile(r"((^|_)(PASS|PWD|CREDENTIALS?|(API|ACCESS|PRIVATE|SECRET)_?KEY|SECRET_KEY_BASE)"
                  r"|PASSWD|PASSWORD|PASSPHRASE|SECRET|TOKEN)$")
_VARIABLES = re.compile(rb"^[ \t]*(?:export\s+)?(\w+)[ \t]*=[ \t]*[\"']?([^\s\"'#]*)", re.M)
SWITCHES = frozenset(("true", "false", "yes", "no", "on", "off", "0", "1", "none", "null"))  # values of no secret
FILES: Mapping[str, re.Pattern[bytes]] = {  # the end of a path, after a slash -> what makes it a secret
    ".netrc": _NETRC, "_netrc": _NETRC, "etc/netrc": _NETRC, "apt/auth.conf": _NETRC, "apt/auth.conf.d/*": _NETRC,
    ".npmrc": _NPM, "npmrc": _NPM,
    ".yarnrc.yml": re.compile(rb"npmAuth(Token|Ident)\s*:\s*" + _VALUE),
    ".pypirc": _PASSWORD, "pypoetry/auth.toml": _PASSWORD, ".my.cnf": _PASSWORD, ".gradle/gradle.properties": _PASSWORD,
    ".msmtprc": re.compile(rb"^[ \t]*password\s+\S", re.M),
    "pip.conf": URL, ".condarc": URL, "uv.toml": URL, "apt/sources.list": URL, "apt/sources.list.d/*": URL,
    ".git-credentials": URL,
    ".git/config": _GIT, ".gitconfig": _GIT, "etc/gitconfig": _GIT,
    ".dockercfg": _DOCKER, ".docker/config.json": _DOCKER, "containers/auth.json": _DOCKER,
    ".dockerconfigjson": _DOCKER, "containers/*/auth.json": _DOCKER,
    ".azure/accessTokens.json": _AZURE, ".azure/msal_token_cache.json": _AZURE,
    "config.json": re.compile(rb'"auth"\s*:\s*"[A-Za-z0-9+/]{10,}={0,2}"'),  # a shorter one may be a word
    ".composer/auth.json": _COMPOSER, "composer/auth.json": _COMPOSER,
    "credentials": _CREDENTIALS, "credentials.toml": _CREDENTIALS, ".aws/config": _CREDENTIALS, ".s3cfg": _CREDENTIALS,
    "rclone/rclone.conf": re.compile(rb"^[ \t]*(pass|token|secret_access_key)\s*=\s*\S", re.M),
    "gh/hosts.yml": _OAUTH, ".config/hub": _OAUTH, ".terraformrc": _OAUTH, "credentials.tfrc.json": _OAUTH,
    "application_default_credentials.json": _OAUTH,
    ".vault-token": re.compile(rb"\S"),
    ".m2/settings.xml": re.compile(rb"<(password|passphrase)>[^<${]"),
    ".pgpass": re.compile(rb"^[^#\n]+:[^:\n]+$", re.M),
    ".kube/config": _KUBE, "kubeconfig": _KUBE, "*.kubeconfig": _KUBE, "etc/kubernetes/*.conf": _KUBE,
    "*.tfstate": _STATE, "*.tfstate.backup": _STATE,
    ".htpasswd": _HTPASSWD, "htpasswd": _HTPASSWD, "*.htpasswd": _HTPASSWD,
    "*.keytab": re.compile(rb"\A\x05[\x01\x02]"),
    "shadow": _HASHED, "shadow-": _HASHED, "gshadow": _HASHED, "gshadow-": _HASHED, "security/opasswd": _HASHED,
    "etc/passwd": _HASHED, "etc/passwd-": _HASHED,
}
VARIABLES = (".env", ".envrc", "*.env", ".env.*", "etc/environment")  # files of variables
SAMPLES = ("example", "sample", "template", "dist", "defaults")  # at the end of the name of one that has no secrets
ACCOUNTS = ("etc/shadow", "etc/passwd")
OPEN = re.compile(rb"^([^:#+\s-][^:\n]*)::", re.M)  # an account that has no password, and needs none


def of_file(path: str, content: bytes) -> str:
    """What is secret in a file: 'is a private key', 'has a password'; '' if nothing is."""
    if said := of_any(content):
        return said
    if any(_ends(path, end) and pattern.search(content) for end, pattern in FILES.items()):
        return "has a password or token"
    if any(_ends(path, end) for end in VARIABLES) and not path.endswith(SAMPLES):
        for name, value in _VARIABLES.findall(content):
            if of_variable(name.decode(), value.decode(errors="replace")):
                return "has a password or token"
    opened = OPEN.search(content) if any(_ends(path, end) for end in ACCOUNTS) else None
    return f"lets anybody be {opened[1].decode(errors='replace')} without a password" if opened else ""


def of_any(content: bytes) -> str:
    """The same for a file of any name, or its beginning."""
    return of_text(content) or ("is a private key" if BINARY.match(content) else "")


def of_text(content: bytes) -> str:
    """The same for any text, wherever it is."""
    for forms, said in ((KEYS, "is a private key"), (TOKENS, "has a token")):
        if any(mark in content and form.search(content) for mark, form in forms.items()):
            return said
    return ""


def of_variable(name: str, value: str) -> bool:
    """Whether a variable of the environment is a secret. A path tells nothing."""
    if URL.search(value.encode(errors="replace")):
        return True
    return bool(NAME.search(name.upper()) and value and value.lower() not in SWITCHES
                and not value.startswith(("/", "file:/", "$", "<", "{", "*", "%")))


def _ends(path: str, end: str) -> bool:
    return path.endswith("/" + end) if "*" not in end else fnmatch.fnmatchcase(path, "*/" + end)
