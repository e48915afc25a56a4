//! `#[tollgate::transform]`: generates a component's exports from a plain function.

mod lint;

use proc_macro::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, FnArg, ItemFn, LitStr, Path, ReturnType, Token, Type, parse_macro_input, parse_quote};

/// Turns a function into a transform.
///
/// ```text
/// fn check(event: &PaymentEvent) -> Verdict
/// fn check(event: &mut PaymentEvent, ctx: &Context) -> Verdict
/// fn check(event: &mut PaymentEvent, ctx: &Context, config: &Config) -> Result<Verdict, Rejection>
/// ```
///
/// - `event` is a message that prost generated, `&mut` where the transform changes it.
/// - `config` is any type that serde can deserialize. It is read once from transform.yaml's `config`, overridden by the
///   pipeline's, and an error in it rejects the transform before the first event.
/// - The function returns a `Verdict`, or a `Result` of `()` or `Verdict` with a `Rejection` as its error.
///
/// A function that obviously discards its own work causes a warning: `Pass` after something was emitted or the event
/// was changed. The warning is `deprecated`, the only one that stable Rust lets a macro emit.
///
/// Options: `routes("audit", …)` as in transform.yaml; `tombstones` to be called for events without a value
/// too (otherwise they pass unchanged); `crate = path` if the SDK is not named `tollgate`.
#[proc_macro_attribute]
pub fn transform(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as Options);
    let function = parse_macro_input!(item as ItemFn);
    expand(&options, &function).unwrap_or_else(Error::into_compile_error).into()
}

struct Options {
    routes: Vec<LitStr>,
    tombstones: bool,
    sdk: Path,
}

impl Parse for Options {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut options = Self { routes: Vec::new(), tombstones: false, sdk: parse_quote!(::tollgate) };
        while !input.is_empty() {
            if input.peek(Token![crate]) {
                input.parse::<Token![crate]>()?;
                input.parse::<Token![=]>()?;
                options.sdk = input.call(Path::parse_mod_style)?;
            } else {
                let name: syn::Ident = input.parse()?;
                match name.to_string().as_str() {
                    "tombstones" => options.tombstones = true,
                    "routes" => {
                        let names;
                        syn::parenthesized!(names in input);
                        options.routes.extend(Punctuated::<LitStr, Token![,]>::parse_terminated(&names)?);
                    }
                    _ => return Err(Error::new(name.span(), "unknown option: `routes(…)`, `tombstones`, `crate = …`")),
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn expand(options: &Options, function: &ItemFn) -> syn::Result<proc_macro2::TokenStream> {
    let signature = &function.sig;
    if let Some(message) = odd(signature) {
        return Err(Error::new_spanned(signature, message));
    }
    let types = signature.inputs.iter().map(referenced).collect::<syn::Result<Vec<_>>>()?;
    if let Some((context, true)) = types.get(1) {
        return Err(Error::new_spanned(context, "the context is shared: `&Context`"));
    }
    if let Some((config, true)) = types.get(2) {
        return Err(Error::new_spanned(config, "the configuration is the same for all events: `&Config`"));
    }

    let Options { routes, tombstones, sdk } = options;
    let name = &signature.ident;
    let (event, changes) = &types[0];
    let no_config: Type = parse_quote!(#sdk::guest::NoConfig);
    let config = types.get(2).map_or(&no_config, |(config, _)| config);
    let arguments = [quote!(event), quote!(ctx), quote!(config)].into_iter().take(types.len());
    // Lets `tollgate build` compare the routes with transform.yaml's.
    let listed = routes.iter().map(LitStr::value).collect::<Vec<_>>().join("\n").into_bytes();
    let (section, length) = (proc_macro2::Literal::byte_string(&listed), listed.len());

    let allowed = function.attrs.iter().filter(|attribute| lint::is_level(attribute));
    let warnings = warnings(function, *changes);

    Ok(quote! {
        #function

        #(#allowed)*
        const _: () = { #(#warnings;)* };

        const _: () = {
            enum Transform {}

            impl #sdk::guest::Transform for Transform {
                type Event = #event;
                type Config = #config;
                const ROUTES: &'static [&'static str] = &[#(#routes),*];
                const TOMBSTONES: bool = #tombstones;
                const CHANGES: bool = #changes;

                fn config() -> &'static ::std::sync::OnceLock<Self::Config> {
                    static CONFIG: ::std::sync::OnceLock<#config> = ::std::sync::OnceLock::new();
                    &CONFIG
                }

                #[inline]
                #[allow(unused_variables, reason = "a function that takes fewer arguments leaves some alone")]
                fn call(event: &mut Self::Event, ctx: &#sdk::Context, config: &Self::Config) -> #sdk::Verdict {
                    ::core::convert::Into::into(#name(#(#arguments),*))
                }
            }

            // Natively only tests call it; that does not make it dead code.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(&mut #event, &#sdk::Context, &#config) -> #sdk::Verdict =
                <Transform as #sdk::guest::Transform>::call;

            #[cfg(target_arch = "wasm32")]
            #sdk::bindings::__export_transform!(Transform with_types_in #sdk::bindings);

            #[cfg(target_arch = "wasm32")]
            #[used]
            #[unsafe(link_section = "tollgate:routes")]
            static ROUTES: [u8; #length] = *#section;
        };
    })
}

/// Returns the lint's findings as code that warns. On stable Rust a macro can warn only by using a deprecated item.
fn warnings(function: &ItemFn, changes: bool) -> impl Iterator<Item = proc_macro2::TokenStream> {
    lint::find(function, changes).into_iter().map(|lint::Finding { note, span }| {
        quote_spanned! { span =>
            {
                #[deprecated(note = #note)]
                const LOST: () = ();
                LOST
            }
        }
    })
}

/// Returns why a function cannot be a transform, judging by its signature.
fn odd(signature: &syn::Signature) -> Option<&'static str> {
    if signature.asyncness.is_some() {
        Some("a transform cannot be an async fn: the host passes it one event at a time")
    } else if !signature.generics.params.is_empty() {
        Some("a transform cannot have generic parameters: name the message type")
    } else if matches!(signature.output, ReturnType::Default) {
        Some("a transform returns a `Verdict`, or a `Result` with a `Rejection` as its error")
    } else if !(1..=3).contains(&signature.inputs.len()) {
        Some("a transform takes `event: &mut Message`, then if wanted `ctx: &Context`, then `config: &Config`")
    } else {
        None
    }
}

/// Returns the type behind a parameter's reference, and whether the reference is `&mut`.
fn referenced(parameter: &FnArg) -> syn::Result<(Type, bool)> {
    match parameter {
        FnArg::Typed(typed) => {
            let Type::Reference(reference) = &*typed.ty else {
                return Err(Error::new_spanned(&typed.ty, "a reference: `&mut Message`, `&Context`, `&Config`"));
            };
            Ok(((*reference.elem).clone(), reference.mutability.is_some()))
        }
        FnArg::Receiver(receiver) => Err(Error::new_spanned(receiver, "a transform is a free function")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: &str, function: &str) -> Result<String, String> {
        let options = syn::parse_str(options).map_err(|error: Error| error.to_string())?;
        let function = syn::parse_str(function).map_err(|error: Error| error.to_string())?;
        expand(&options, &function).map(|tokens| tokens.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_function_that_is_no_transform_hears_what_one_looks_like() {
        for (options, function, expected) in [
            ("", "async fn f(e: &E) -> V {}", "an async fn"),
            ("", "fn f<T>(e: &T) -> V {}", "cannot have generic parameters"),
            ("", "fn f(e: &E) {}", "returns a `Verdict`"),
            ("", "fn f() -> V {}", "takes `event: &mut Message`"),
            ("", "fn f(e: &E, c: &C, k: &K, x: &X) -> V {}", "takes `event: &mut Message`"),
            ("", "fn f(e: E) -> V {}", "a reference"),
            ("", "fn f(&self) -> V {}", "a free function"),
            ("", "fn f(e: &E, c: &mut C) -> V {}", "the context is shared"),
            ("", "fn f(e: &E, c: &C, k: &mut K) -> V {}", "the same for all events"),
            ("route(\"a\")", "fn f(e: &E) -> V {}", "unknown option"),
        ] {
            let error = expanded(options, function).expect_err(function);
            assert!(error.contains(expected), "{function}: {error}");
        }
    }

    #[test]
    fn options_reach_the_component() {
        let code = expanded("routes(\"a\", \"b\"), tombstones, crate = sdk", "fn f(e: &mut E) -> V {}").unwrap();
        assert!(code.contains(r#"& ["a" , "b"]"#) && code.contains(r#"* b"a\nb""#), "{code}");
        assert!(code.contains("TOMBSTONES : bool = true") && code.contains("CHANGES : bool = true"), "{code}");
        assert!(code.contains("sdk :: guest") && !code.contains("tollgate ::"), "{code}");
        let code = expanded("", "fn f(e: &E) -> V {}").unwrap();
        assert!(code.contains("TOMBSTONES : bool = false") && code.contains("CHANGES : bool = false"), "{code}");
    }
}
