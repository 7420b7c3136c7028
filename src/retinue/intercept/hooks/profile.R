# Start-up hook of R under `retinue run`: RCurl, and curl before 5.2, trust the relay too.
#
# R_PROFILE_USER names it. At its end it runs the profile that it replaces.
local({
  bundle <- Sys.getenv("CURL_CA_BUNDLE")
  options(RCurlOptions = utils::modifyList(as.list(getOption("RCurlOptions")), list(cainfo = bundle)))
  setHook(packageEvent("curl", "onLoad"), function(...) {
    package <- asNamespace("curl")
    new_handle <- package$new_handle
    unlockBinding("new_handle", package)
    assign("new_handle", function(...) new_handle(cainfo = bundle, ...), package)
    lockBinding("new_handle", package)
  })
})

local({
  for (profile in c(Sys.getenv("RETINUE_R_PROFILE_USER"), ".Rprofile", "~/.Rprofile")) {
    if (nzchar(profile) && file.exists(profile)) {
      sys.source(profile, globalenv())
      break
    }
  }
})
