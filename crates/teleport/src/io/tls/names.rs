//! Which nodes a certificate is for.

use crate::{Names, TlsError};
use rustls::pki_types::{CertificateDer, ServerName};
use teleport_proto::NodeName;
use webpki::EndEntityCert;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::DirectoryString;

/// What a URI that names a node begins with.
const SCHEME: &str = "teleport://";

/// The identifier of the attribute with the common name (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Whether it is for the node of that name. If it names nodes, that is one of them; if not, it is as `names` says.
pub(super) fn check(certificate: &CertificateDer<'_>, name: &NodeName, names: Names) -> Result<(), TlsError> {
    let unreadable = |error| TlsError::Failed(format!("the certificate cannot be read: {error}"));
    let common = match names {
        Names::HostOrCommonName => common_names(certificate),
        _ => Vec::new(),
    };
    let certificate = EndEntityCert::try_from(certificate).map_err(unreadable)?;
    let nodes: Vec<_> = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix(SCHEME)).collect();
    let host = name.as_str().rsplit_once('@').map_or("", |(_, host)| host);
    let of_host = || match ServerName::try_from(host) {
        // Distributed Erlang takes no names with `*` in them.
        Ok(ServerName::DnsName(_)) if names == Names::HostOrCommonName => {
            certificate.valid_dns_names().any(|name| name.eq_ignore_ascii_case(host))
        }
        Ok(host) => certificate.verify_is_valid_for_subject_name(&host).is_ok(),
        Err(_) => false,
    };
    let fits = match nodes[..] {
        [] if names == Names::Any => true,
        [] => of_host() || common.iter().any(|common| common.eq_ignore_ascii_case(host)),
        _ => nodes.contains(&name.as_str()),
    };
    if fits {
        return Ok(());
    }
    let named = match nodes[..] {
        [] => certificate.valid_dns_names().chain(common.iter().map(String::as_str)).collect(),
        _ => nodes,
    };
    Err(TlsError::WrongName { name: name.clone(), named: named.join(", ") })
}

/// The common names of the subject, of a certificate that has no alternative names.
fn common_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    // What cannot be read has no common names: that is the stricter way.
    let Ok(certificate) = Certificate::from_der(certificate) else { return Vec::new() };
    let certificate = certificate.tbs_certificate();
    let mut extensions = certificate.extensions().into_iter().flatten();
    if extensions.any(|extension| extension.extn_id == SubjectAltName::OID) {
        return Vec::new();
    }
    let names = certificate.subject().iter().filter(|attribute| attribute.oid == COMMON_NAME);
    names.filter_map(|name| DirectoryString::try_from(&name.value).ok()).map(String::from).collect()
}
