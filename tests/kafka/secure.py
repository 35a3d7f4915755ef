"""A Kafka broker that asks who is there: TLS with client certificates, SCRAM, and tokens, with certificates made here."""

import base64
import json
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from kafka.broker import KafkaBroker, free_ports

OPENSSL = shutil.which("openssl")
HOURS_2 = 7200
LISTENERS = ("MTLS", "SCRAM", "TOKEN", "OIDC")
SECURE = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},{secure}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},{secure}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,MTLS:SSL,SCRAM:SASL_SSL,TOKEN:SASL_SSL,OIDC:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={broker}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.mtls.ssl.client.auth=required
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.token.oauthbearer.sasl.jaas.config={login} unsecuredLoginStringClaim_sub="broker";
listener.name.oidc.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oidc.oauthbearer.sasl.jaas.config={login};
listener.name.oidc.oauthbearer.sasl.server.callback.handler.class={validator}
listener.name.oidc.sasl.oauthbearer.jwks.endpoint.url={jwks}
listener.name.oidc.sasl.oauthbearer.expected.audience=kafka
"""
OAUTH = "org.apache.kafka.common.security.oauthbearer"


def openssl(folder, *arguments):
    """Run openssl in `folder`; what it writes."""
    done = subprocess.run([OPENSSL, *arguments], cwd=folder, check=True, capture_output=True)
    return done.stdout


class Certificates:
    """An authority, a certificate of the broker for 127.0.0.1, one of a client whose key has a password, another authority."""

    def __init__(self, folder, key_password):
        folder.mkdir(parents=True)
        self.folder = folder
        for name in ("authority", "other"):
            new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
            openssl(folder, "req", "-x509", *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
        for name in ("broker", "client"):
            self._sign(name)
        joined = (folder / "broker.key").read_bytes() + (folder / "broker.crt").read_bytes()
        (folder / "broker.pem").write_bytes(joined)
        locked = ("-topk8", "-v2", "aes-256-cbc", "-passout", f"pass:{key_password}")
        openssl(folder, "pkcs8", *locked, "-in", "client.key", "-out", "client.locked.key")

    def _sign(self, name):
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl(self.folder, "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        by = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl(self.folder, "x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.crt")

    def path(self, name):
        """A file of theirs as text."""
        return str(self.folder / name)


def _b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenIssuer:
    """Hands out signed tokens for a client's secret, and the key that they are checked by."""

    def __init__(self, folder, client_id, secret):
        folder.mkdir(parents=True)
        self.folder, self.asked, self.tokens = folder, [], []
        openssl(folder, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem")
        modulus = openssl(folder, "rsa", "-in", "key.pem", "-noout", "-modulus").decode().strip().partition("=")[2]
        self._jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "test", "e": "AQAB"}
        self._jwk["n"] = _b64url(bytes.fromhex(modulus))
        basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(200, {"keys": [issuer._jwk]})

            def do_POST(self):
                body = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
                told = self.headers.get("Authorization") == f"Basic {basic}"
                told |= (body.get("client_id"), body.get("client_secret")) == ([client_id], [secret])
                issuer.asked.append(told)
                if told:
                    self._answer(200, {"access_token": issuer.token(client_id), "token_type": "Bearer", "expires_in": HOURS_2})
                else:
                    self._answer(401, {"error": "invalid_client"})

            def _answer(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, subject):
        """A token signed with this issuer's key."""
        now = int(time.time())
        claims = {"sub": subject, "iss": "test", "aud": "kafka", "iat": now, "exp": now + HOURS_2, "scope": "kafka"}
        header = {"alg": "RS256", "kid": "test", "typ": "JWT"}
        signed = f"{_b64url(json.dumps(header).encode())}.{_b64url(json.dumps(claims).encode())}"
        (self.folder / "signed").write_text(signed)
        signature = openssl(self.folder, "dgst", "-sha256", "-sign", "key.pem", "signed")
        self.tokens.append(f"{signed}.{_b64url(signature)}")
        return self.tokens[-1]

    def close(self):
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class SecureBroker(KafkaBroker):
    """A broker with a listener of each kind; `bootstrap_servers` is a plain one, for looking at what came out.

    Parameters
    ----------
    folder, jars : path
    certificates : Certificates
    issuer : TokenIssuer
    user, password : str
        Of SCRAM.
    """

    def __init__(self, folder, jars, certificates, issuer, user, password):
        plain, controller, *ports = free_ports(2 + len(LISTENERS))
        self.listeners = {name: f"127.0.0.1:{port}" for name, port in zip(LISTENERS, ports)}
        more = SECURE.format(
            plain=plain,
            controller=controller,
            secure=",".join(f"{name}://{where}" for name, where in self.listeners.items()),
            broker=certificates.path("broker.pem"),
            authority=certificates.path("authority.pem"),
            login=f"{OAUTH}.OAuthBearerLoginModule required",
            validator=f"{OAUTH}.OAuthBearerValidatorCallbackHandler",
            jwks=f"{issuer.url}/jwks",
        )
        scram = f"SCRAM-SHA-512=[name={user},password={password}]"
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.url}/jwks"
        super().__init__(folder, jars, more, ["--add-scram", scram], [allowed], ports=(plain, controller))
