// SPDX-License-Identifier: Apache-2.0

package k8s

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// builder makes the clients of a Client; all share one connection. The first error
// is kept.
type builder struct {
	cfg    *rest.Config
	http   *http.Client
	codecs serializer.CodecFactory
	params runtime.ParameterCodec
	err    error
}

// group is the client of one group. Kinds of Kubernetes itself come as protocol
// buffers, which cost half as much to read; others exist as JSON only.
func (b *builder) group(gv schema.GroupVersion, path string) rest.Interface {
	cfg := rest.CopyConfig(b.cfg)
	cfg.GroupVersion, cfg.APIPath = &gv, path
	cfg.NegotiatedSerializer = b.codecs.WithoutConversion()
	cfg.AcceptContentTypes, cfg.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	if gv.Group != v1alpha1.Group {
		cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		cfg.ContentType = runtime.ContentTypeProtobuf
	}
	c, err := rest.RESTClientForConfigAndClient(cfg, b.http)
	if err != nil && b.err == nil {
		b.err = err
	}
	return c
}

// object is a pointer to T that is an API object; list one that is a list.
type object[T any] interface {
	*T
	runtime.Object
	metav1.Object
}

type list[L any] interface {
	*L
	runtime.Object
}

func kind[T, L any, PT object[T], PL list[L]](b *builder, c rest.Interface, resource string) *gentype.ClientWithList[PT, PL] {
	return gentype.NewClientWithList[PT, PL](resource, c, b.params, metav1.NamespaceAll,
		func() PT { return new(T) }, func() PL { return new(L) })
}
