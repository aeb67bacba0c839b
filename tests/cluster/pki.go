// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// identity is a certificate and its key, in PEM.
type identity struct{ cert, key []byte }

// holder is whom a certificate is for; where it serves, by which names.
type holder struct {
	user   string
	groups []string
	names  []string
	ips    []string
}

const validity = 10 * 365 * 24 * time.Hour

func newAuthority(name string) (*authority, error) {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	a := &authority{}
	id, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	a.pem = id.cert
	return a, nil
}

func (a *authority) issue(h holder) (identity, error) {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: h.user, Organization: h.groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, DNSNames: h.names}
	for _, ip := range h.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	return a.sign(template)
}

// sign makes a key and its certificate; an authority without its own signs itself.
func (a *authority) sign(template *x509.Certificate) (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, fmt.Errorf("making a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return identity{}, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(validity)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return identity{}, fmt.Errorf("signing the certificate of %s: %w", template.Subject, err)
	}
	if a.cert == nil {
		a.key = key
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			return identity{}, err
		}
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return identity{}, err
	}
	return identity{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}, nil
}

// pki is the cluster's: its authority, which nodes that come later need too.
type pki struct {
	dir string
	ca  *authority
}

// makePKI writes what the control plane is configured with into dir.
func makePKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca, err := newAuthority("kubernetes")
	if err != nil {
		return nil, err
	}
	front, err := newAuthority("front-proxy")
	if err != nil {
		return nil, err
	}
	p := &pki{dir: dir, ca: ca}
	accounts, err := newAuthority("service-accounts") // only its key is used
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(accounts.key)
	if err != nil {
		return nil, err
	}
	caKey, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"ca.crt": ca.pem, "front-proxy-ca.crt": front.pem,
		"ca.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: caKey}),
		"sa.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	public, err := x509.MarshalPKIXPublicKey(accounts.key.Public())
	if err != nil {
		return nil, err
	}
	files["sa.pub"] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	if err := p.write("front-proxy-client", front, holder{user: "front-proxy-client"}); err != nil {
		return nil, err
	}
	return p, p.writeControlPlane()
}

func (p *pki) writeControlPlane() error {
	for name, h := range map[string]holder{
		"apiserver": {user: "kube-apiserver", ips: []string{"127.0.0.1", controlPlaneIPv4, controlPlaneIPv6, "10.96.0.1", "fd00:10:96::1"},
			names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
		"apiserver-kubelet-client": {user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
	} {
		if err := p.write(name, p.ca, h); err != nil {
			return err
		}
	}
	for name, h := range map[string]holder{
		"controller-manager": {user: "system:kube-controller-manager"},
		"scheduler":          {user: "system:kube-scheduler"},
	} {
		config, err := p.kubeconfig(apiServer, h)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(p.dir, name+".kubeconfig"), []byte(config), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *pki) write(name string, by *authority, h holder) error {
	id, err := by.issue(h)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.dir, name+".crt"), id.cert, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, name+".key"), id.key, 0o600)
}

// kubeconfig lets its holder in at server.
func (p *pki) kubeconfig(server string, h holder) (string, error) {
	id, err := p.ca.issue(h)
	if err != nil {
		return "", err
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: weft
clusters:
- name: weft
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: weft
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: weft
  context: {cluster: weft, user: weft}
`, server, b64(p.ca.pem), b64(id.cert), b64(id.key)), nil
}

// loadPKI reads the authority back.
func loadPKI(dir string) (*pki, error) {
	cert, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(cert)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("reading %s: no PEM", dir)
	}
	a := &authority{pem: cert}
	if a.cert, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading %s: ca.key is a %T", dir, key)
	}
	a.key = signer
	return &pki{dir: dir, ca: a}, nil
}
