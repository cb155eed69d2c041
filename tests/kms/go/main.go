// A Vault server of the module's own parts with what the tests need of it: KV, tokens, and the Kubernetes authentication. Its
// data are files below one directory, so that it can be stopped and started again; it is initialised and unsealed over its API.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	api "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// noPlugins stands for the catalogue of everything that the whole program brings.
type noPlugins struct{}

func (noPlugins) Contains(string, consts.PluginType) bool { return false }
func (noPlugins) Get(string, consts.PluginType) (func() (interface{}, error), bool) {
	return nil, false
}
func (noPlugins) Keys(consts.PluginType) []string { return nil }
func (noPlugins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, true
}
func (noPlugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func listen(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func main() {
	directory := flag.String("directory", "", "of the data")
	plain := flag.String("address", "", "for HTTP")
	secure := flag.String("tls-address", "", "for HTTPS")
	certificate := flag.String("certificate", "", "file")
	key := flag.String("key", "", "file")
	flag.Parse()

	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn})
	storage, err := file.NewFileBackend(map[string]string{"path": *directory}, logger)
	if err != nil {
		log.Fatal(err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory},
		CredentialBackends: map[string]logical.Factory{"kubernetes": kubernetes.Factory},
		BuiltinRegistry:    noPlugins{},
		DisableMlock:       true,
		DisableCache:       true,
		Logger:             logger,
		RedirectAddr:       "http://" + *plain,
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := api.Handler.Handler(&vault.HandlerProperties{Core: core})
	server := http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return context.Background() }}
	if *secure != "" {
		go func() { log.Fatal(server.ServeTLS(listen(*secure), *certificate, *key)) }()
	}
	log.Fatal(server.Serve(listen(*plain)))
}
